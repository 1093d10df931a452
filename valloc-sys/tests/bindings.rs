//! The committed bindings are those of the header. `BLESS=1` rewrites them.

include!("../bindgen.rs");

#[test]
fn committed_bindings_match_the_header() {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/src/bindings.rs");
    let generated = generate(&format!("{root}/c/include/valloc.h")).expect("bindgen");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &generated).expect("src/bindings.rs is writable");
    }
    let committed = std::fs::read_to_string(&path).expect("src/bindings.rs is there");
    assert!(committed == generated, "valloc.h has changed: run `BLESS=1 cargo test -p valloc-sys`");
}
