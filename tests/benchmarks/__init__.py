"""How fast it is: a figure for each bar that the project sets itself."""
