//! D17: what is documented compiles and runs.

#[test]
fn the_example_of_the_readme_is_the_one_that_is_run() {
    let readme = include_str!("../../../../README.md");
    let example = include_str!("../../examples/quickstart.rs");
    let shown = readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next());
    let code = &example[example.find("use std").expect("it begins with its imports")..];
    assert_eq!(shown, Some(code));
}

#[test]
fn a_backend_of_one_s_own_is_under_sixty_lines() {
    let example = include_str!("../../examples/custom_backend.rs");
    assert!(example.lines().count() < 60, "{}", example.lines().count());
}
