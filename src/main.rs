//! The `remuda` program: everything is in the library.

fn main() {}
