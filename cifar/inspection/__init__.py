"""What is wrong with a data set, as findings: suspicious labels and more."""
