fn main() {
    let mut kept;
    {
        let heap = valloc::Heap::new().unwrap();
        kept = allocator_api2::vec::Vec::new_in(&heap);
    }
    kept.push(1);
}
