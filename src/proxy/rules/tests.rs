//! Tables, named after the lines of the rules.
