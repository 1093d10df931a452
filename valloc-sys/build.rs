//! Builds the C core as one translation unit, or links an installed library.

use std::env;
use std::path::{Path, PathBuf};

#[cfg(feature = "bindgen")]
include!("bindgen.rs");

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let c = root.join("c");
    let include = c.join("include");

    println!("cargo:rerun-if-changed=c");
    println!("cargo:rerun-if-env-changed=VALLOC_SYS_USE_SYSTEM");
    println!("cargo:include={}", include.display());
    println!("cargo:rustc-check-cfg=cfg(valloc_forwards)");

    #[cfg(feature = "bindgen")]
    write_bindings(&include);

    if !has_port() {
        println!("cargo:forwards=1"); // for the build script of valloc
        println!("cargo:rustc-cfg=valloc_forwards");
    } else if env::var("VALLOC_SYS_USE_SYSTEM").is_ok_and(|value| value != "0") {
        refuse_features_of_the_core();
        println!("cargo:rustc-link-lib=valloc");
    } else {
        build(&c);
    }
}

/// An installed library is what it was built as.
fn refuse_features_of_the_core() {
    for feature in ["OVERRIDE", "SECURE", "UNCHECKED", "VALGRIND", "DLOPEN"] {
        assert!(
            env::var_os(format!("CARGO_FEATURE_{feature}")).is_none(),
            "VALLOC_SYS_USE_SYSTEM links the installed libvalloc, which the feature `{}` cannot change",
            feature.to_lowercase()
        );
    }
}

/// Whether the C core supports the target, which may differ from the platform that builds. Tests
/// build with `--cfg valloc_forwards` as if it did not.
fn has_port() -> bool {
    let target = |what: &str| env::var(format!("CARGO_CFG_{what}")).unwrap_or_default();
    target("TARGET_OS") == "linux"
        && ["gnu", "musl"].contains(&target("TARGET_ENV").as_str())
        && ["x86_64", "aarch64", "riscv64"].contains(&target("TARGET_ARCH").as_str())
        && target("TARGET_POINTER_WIDTH") == "64"
        && target("TARGET_ENDIAN") == "little"
        && env::var_os("CARGO_CFG_VALLOC_FORWARDS").is_none()
}

fn build(c: &Path) {
    let mut build = cc::Build::new();
    build
        .file(c.join("src/unity.c"))
        .include(c.join("src"))
        .std("gnu11")
        .flag("-fvisibility=hidden")
        .warnings(true)
        .extra_warnings(true);
    if env::var_os("CARGO_FEATURE_OVERRIDE").is_some() {
        build
            .file(c.join("src/api/override.c"))
            .flag("-fno-builtin")
            .define("VALLOC_OVERRIDE", "1");
    } else if env::var_os("CARGO_FEATURE_DLOPEN").is_some() {
        // Not with `override`: finding dynamic data calls malloc. A program needs no such data.
        build.define("VALLOC_TLS_DYNAMIC", "1");
    }
    // Features add up over a program's crates: the secure build wins.
    if env::var_os("CARGO_FEATURE_SECURE").is_some() {
        build.define("VALLOC_SECURE", "1");
    } else if env::var_os("CARGO_FEATURE_UNCHECKED").is_some() {
        build.define("VALLOC_CHECKS", "0");
    }
    if env::var_os("CARGO_FEATURE_VALGRIND").is_some() {
        build.define("VALLOC_VALGRIND", "1");
    }
    // The same flags as in CMakeLists.txt, so the golden instruction counts apply. Debug builds of
    // programs are optimised here, too: an allocator without optimisation is too slow for them.
    build.opt_level(2);
    for flag in ["inline-small-functions", "reorder-blocks-and-partition"] {
        build.flag_if_supported(format!("-fno-{flag}"));
    }
    build.flag_if_supported("-falign-jumps=1");
    build.compile("valloc");
}

#[cfg(feature = "bindgen")]
fn write_bindings(include: &Path) {
    let header = include.join("valloc.h");
    let bindings = generate(header.to_str().expect("a path in UTF-8")).expect("bindgen");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    std::fs::write(out.join("bindings.rs"), bindings).expect("OUT_DIR is writable");
}
