"""The stages of Toy Faces training; `demo.toy_faces.train` runs them in order."""
