//! A heap profile of this program, with valloc as its global allocator.

use valloc::profile::{self, Mode, StartError};

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

/// The bytes of all call stacks.
fn live_bytes() -> f64 {
    let folded = String::from_utf8(profile::dump_folded()).unwrap();
    folded.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn profile_tells_what_is_in_use() {
    assert!(profile::dump_pprof().is_empty());
    if valloc::FORWARDS || cfg!(feature = "unchecked") || cfg!(feature = "valgrind") {
        assert_eq!(profile::start(0, Mode::Live), Err(StartError));
        return;
    }
    profile::start(1, Mode::All).unwrap();
    assert_eq!(profile::start(1, Mode::All), Err(StartError));
    let before = live_bytes();
    let kept: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 10_000]).collect();
    let grown = live_bytes() - before;
    assert!((10_000_000.0..10_500_000.0).contains(&grown), "{grown}");
    let dump = profile::dump_pprof();
    assert!(dump.len() > 100);
    drop(kept);
    let rest = live_bytes() - before;
    assert!(rest < 500_000.0, "{rest}");
    profile::stop();
    assert!(!profile::dump_pprof().is_empty());

    let guard = profile::guard(1, Mode::All).unwrap();
    assert!(matches!(profile::guard(1, Mode::All), Err(StartError)));
    let more = vec![1; 10_000];
    let sampled = live_bytes();
    assert!(sampled >= 10_000.0, "{sampled}");
    drop(guard);
    assert_eq!(profile::dump_pprof_all().len(), profile::dump_pprof().len());
    drop(more);
    drop(profile::guard(1, Mode::Live).unwrap());
    assert!(profile::start(1, Mode::Live).is_ok());
    profile::stop();
}
