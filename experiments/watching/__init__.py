"""The page that shows runs: what it reads, and the server that hands it out."""
