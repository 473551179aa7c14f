"""Tables and pictures: a file bears the name of its notebook. They read records and run nothing."""
