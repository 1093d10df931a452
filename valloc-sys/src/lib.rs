//! Declarations of the C API of the valloc memory allocator, as in `valloc.h`.
//!
//! Programs use the `valloc` crate. This crate builds the C core and declares its functions. On
//! targets without a port it builds nothing: its functions cannot be linked there.
#![no_std]
#![allow(non_camel_case_types)]

#[cfg(not(feature = "bindgen"))]
#[rustfmt::skip]
#[allow(missing_docs, clippy::undocumented_unsafe_blocks)]
mod bindings;

#[cfg(feature = "bindgen")]
#[allow(missing_docs, clippy::undocumented_unsafe_blocks)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// Makes the linker include the override's object. Nothing else refers to it by name before the
/// linker finds libc's own `malloc`.
#[cfg(all(feature = "override", not(valloc_forwards)))]
mod force_override {
    use core::ffi::c_void;

    extern "C" {
        fn malloc(size: usize) -> *mut c_void;
        fn malloc_usable_size(pointer: *mut c_void) -> usize;
    }

    #[used]
    static MALLOC: unsafe extern "C" fn(usize) -> *mut c_void = malloc;
    #[used]
    static USABLE_SIZE: unsafe extern "C" fn(*mut c_void) -> usize = malloc_usable_size;
}
