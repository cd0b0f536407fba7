"""What a detector looks at, and how its queries share the work: pictures and plots."""
