//! A site file of any text is refused with spans inside the file, or becomes a plan that compiles for its appliances.

#![no_main]

use libfuzzer_sys::fuzz_target;
use site::Boards;

fuzz_target!(|text: &str| {
    let boards = Boards::new([("two", 2), ("trunk", 1)]);
    match site::parse("site.toml", text, &boards) {
        Ok(plan) => {
            for appliance in &plan.appliances {
                let _ = render::appliance::config(&plan, &appliance.name);
            }
        }
        Err(errors) => assert!(!errors.problems().is_empty()),
    }
});
