// Generates the bindings, for the build script and for the test that compares the committed bindings
// with the header.

/// The bindings for `header`, as Rust source.
fn generate(header: &str) -> Result<String, Box<dyn std::error::Error>> {
    let bindings = bindgen::Builder::default()
        .header(header)
        .clang_arg("-DVALLOC_NO_SHORT_NAMES")
        .clang_arg("-fparse-all-comments")
        .rust_target(bindgen::RustTarget::stable(77, 0).expect("the workspace's rust-version"))
        .allowlist_function("valloc_.*|free_valloc")
        .allowlist_type("valloc_.*|Memory.*")
        .allowlist_var("VALLOC_.*")
        .use_core()
        .layout_tests(false)
        .derive_default(true)
        .derive_eq(true)
        .prepend_enum_name(false)
        .generate_comments(true)
        .size_t_is_usize(true)
        .formatter(bindgen::Formatter::Prettyplease)
        .generate()?;
    Ok(bindings.to_string())
}
