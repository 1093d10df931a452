//! Options that are compiled into the program, and what functions then make of them.

use std::time::Duration;

use valloc::HugePages;

#[global_allocator]
static GLOBAL: valloc::Valloc = valloc::Valloc;

valloc::configure!(concat!("hard_limit_mib", "=64,huge_pages=never"));

fn is_limited() -> bool {
    let mut bytes = Vec::<u8>::new();
    bytes.try_reserve_exact(100 << 20).is_err()
}

#[test]
fn compiled_limit_holds_until_a_function_lifts_it() {
    if valloc::FORWARDS || std::env::var_os("VALLOC_HARD_LIMIT_MIB").is_some() {
        return;
    }
    assert!(is_limited());
    valloc::set_limits(None, None).unwrap();
    assert!(!is_limited());
    assert!(valloc::set_limits(Some(2 << 20), Some(1 << 20)).is_err());
}

#[test]
fn settings_change_while_memory_is_in_use() {
    for choice in [HugePages::Always, HugePages::Never, HugePages::Auto] {
        valloc::set_huge_pages(choice);
        valloc::set_purge_delay(Duration::from_millis(1));
        let kept: Vec<Vec<u8>> = (0..1000).map(|i| vec![1; 1 + i * 7]).collect();
        assert_eq!(kept.iter().map(|bytes| bytes[0] as usize).sum::<usize>(), 1000);
    }
}
