fn main() {
    let kept;
    {
        let heap = valloc::Heap::new().unwrap();
        kept = heap.alloc(5).unwrap();
    }
    println!("{kept}");
}
