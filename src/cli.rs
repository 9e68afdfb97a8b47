//! The commands: arguments in, one library function called, its answer printed. Only here is a terminal known.
