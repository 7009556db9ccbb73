"""Archives: studies packed in one file, and put into a tracking store from it after every byte is checked."""
