//! Passes on what the build of valloc-sys found: whether the target has a port of the C core.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(valloc_forwards)");
    if std::env::var_os("DEP_VALLOC_FORWARDS").is_some() {
        println!("cargo:rustc-cfg=valloc_forwards");
    }
}
