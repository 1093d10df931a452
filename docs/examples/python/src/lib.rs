//! A Python module whose Rust part allocates by valloc. Python's own objects stay in Python's memory.
//!
//! `maturin build --release` makes a wheel. `import valloc_words; valloc_words.count("a b a")`.

use std::collections::HashMap;
use std::sync::Mutex;

use pyo3::prelude::*;

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

/// Words that all calls have in common.
static KNOWN: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// How often each word of a text occurs.
#[pyfunction]
fn count(py: Python<'_>, text: &str) -> HashMap<String, usize> {
    // Other Python threads run meanwhile.
    py.detach(|| {
        let mut counts = HashMap::new();
        for word in text.split_whitespace() {
            *counts.entry(word.to_string()).or_insert(0) += 1;
        }
        let mut known = KNOWN.lock().expect("no thread panics");
        let known = known.get_or_insert_with(HashMap::new);
        for (word, count) in &counts {
            *known.entry(word.clone()).or_insert(0) += count;
        }
        counts
    })
}

/// How many different words were counted so far.
#[pyfunction]
fn known() -> usize {
    KNOWN.lock().expect("no thread panics").as_ref().map_or(0, HashMap::len)
}

/// The bytes that the module has allocated.
#[pyfunction]
fn allocated() -> usize {
    valloc::stats().live
}

/// Returns free memory to the kernel.
#[pyfunction]
fn purge() -> usize {
    valloc::purge()
}

#[pymodule]
fn valloc_words(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(count, module)?)?;
    module.add_function(wrap_pyfunction!(known, module)?)?;
    module.add_function(wrap_pyfunction!(allocated, module)?)?;
    module.add_function(wrap_pyfunction!(purge, module)?)?;
    Ok(())
}
