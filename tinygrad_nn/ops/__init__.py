"""One declaration per operation. Importing this package fills the registry."""
