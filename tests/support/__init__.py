"""What the tests of more than one file use: an installation, its proxies, drivers, recordings and laws."""
