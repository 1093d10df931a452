//! A vector pushed to some hundred MiB moves its pages instead of copying them: no second copy of it
//! is ever resident. Alone in its process, whose peak it reads.

use valloc::Valloc;

#[global_allocator]
static GLOBAL: Valloc = Valloc;

const MIB: usize = 1 << 20;

/// A figure of this process in bytes.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_growing_vector_is_never_resident_twice() {
    let before = status("VmRSS:");
    let mut numbers: Vec<u64> = Vec::new();
    let mut guards = Vec::new(); // stand behind the vector, so that it has to move
    while numbers.len() < 300 * MIB / size_of::<u64>() {
        if numbers.len() == numbers.capacity() {
            numbers.reserve(1);
            guards.push(vec![0u8; 2 * MIB]);
        }
        numbers.push(numbers.len() as u64);
    }
    assert!(status("VmHWM:") - before < 364 * MIB);
    assert!(numbers.iter().enumerate().all(|(i, &number)| number == i as u64));
    numbers.truncate(MIB);
    numbers.shrink_to_fit();
    assert!(numbers.iter().enumerate().all(|(i, &number)| number == i as u64));
    valloc::purge();
    assert!(status("VmRSS:") - before < 64 * MIB);
}
