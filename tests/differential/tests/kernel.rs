//! Thousands of packets through the kernel and through our node.

use std::env;
use std::thread;

use differential::compare::Comparison;
use differential::stories;

/// Every kind of story, many times.
#[test]
fn the_kernel_and_the_node_agree() {
    on_a_large_stack(|| {
        let mut comparison = Comparison::new(&stories::site());
        let mut number = 0;
        for _ in 0..stories_of_each_kind() {
            for kind in stories::KINDS {
                comparison.run(&stories::tell(kind, number));
                number += 1;
            }
        }
        let tally = comparison
            .finish()
            .unwrap_or_else(|differences| panic!("{differences}"));
        println!("{tally}");
    });
}

fn stories_of_each_kind() -> u32 {
    match env::var_os("RAVELIN_SOAK") {
        Some(_) => 20_000,
        None => 500,
    }
}

/// Nodes are built on the stack before they move to the heap.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(test);
    let ended = thread.expect("a thread").join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}
