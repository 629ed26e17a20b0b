//! How much memory something asks for.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What `run` returns, and the bytes this thread allocated meanwhile, whether freed again or not.
pub fn allocated<R>(run: impl FnOnce() -> R) -> (R, u64) {
    let bytes = tikv_jemalloc_ctl::thread::allocatedp::read().unwrap();
    let before = bytes.get();
    let result = run();
    (result, bytes.get() - before)
}
