"""Commands that code recordings by a trained codec into files of real bits, and decode them."""
