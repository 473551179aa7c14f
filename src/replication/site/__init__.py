"""The part of the site that is not written by hand: a page for each record and each source file, made from the files alone."""
