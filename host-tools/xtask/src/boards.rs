//! Builds of the boards: their sizes, and the firmware's libraries without std.

use std::path::Path;

/// Builds the firmware of every board and prints its sizes beside its limits.
pub fn build(root: &Path) -> Result<(), String> {
    println!(
        "{:<14} {:>22} {:>24} {:>24}",
        "board", "flash (limit)", "RAM (limit)", "stack (needs)"
    );
    let mut faults = Vec::new();
    for name in build::boards(root) {
        match build::program(root, &name, &name) {
            Ok(firmware) => {
                let (size, budget) = (firmware.size, firmware.board.budget);
                let pair = |used: u64, limit: u64| format!("{used} ({limit})");
                println!(
                    "{name:<14} {:>22} {:>24} {:>24}",
                    pair(size.flash, budget.flash),
                    pair(size.ram, budget.ram),
                    pair(size.stack, budget.stack)
                );
            }
            Err(error) => faults.push(format!("{error}")),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

/// Builds every library under `firmware/` for the processor of every board: none of them may need std.
pub fn libraries(root: &Path) -> Result<(), String> {
    for name in build::boards(root) {
        build::libraries(root, &name).map_err(|error| error.to_string())?;
        println!("built for {name}");
    }
    Ok(())
}

/// Packages that build for their own processor only.
pub fn bare_metal_packages(root: &Path) -> Vec<String> {
    build::boards(root)
        .into_iter()
        .map(|name| format!("ravelin-board-{name}"))
        .collect()
}
