"""What contlearn does, a file a verb: command line, daemon, server and library call these."""
