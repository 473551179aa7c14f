"""From numbers to words: the quantity of each claim, the rules of the plan, the front page. They read records and run nothing."""
