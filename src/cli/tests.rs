use super::*;

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}
