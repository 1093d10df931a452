fn main() {
    let heap = valloc::Heap::new().unwrap();
    let text = heap.alloc_str("text").unwrap();
    drop(heap);
    println!("{text}");
}
