"""Models in the formats of other libraries: JSON and safetensors, both ways."""
