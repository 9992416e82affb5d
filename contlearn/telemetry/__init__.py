"""What contlearn tells about itself: metrics and logs. Importing it has no effect."""
