"""Files and folders of a data set -> cases, volumes and labels."""
