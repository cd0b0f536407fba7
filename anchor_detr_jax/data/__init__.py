"""Images and annotations, from files to padded batches; nothing here knows of a model."""
