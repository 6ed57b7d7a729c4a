"""Does it learn, from how many images, and what does it cost the pictures? On Toy Faces."""
