"""Running a child: pipes, limits, control groups, signals."""
