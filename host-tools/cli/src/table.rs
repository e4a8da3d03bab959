//! Columns of text.

/// A heading, then rows whose columns are aligned.
pub fn print(heading: &str, columns: &[&str], rows: &[Vec<String>]) {
    println!("\n{heading}");
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([columns[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    line(
        &columns
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
        &widths,
    );
    for row in rows {
        line(row, &widths);
    }
}

fn line(cells: &[String], widths: &[usize]) {
    let mut text = String::from(" ");
    for (cell, width) in cells.iter().zip(widths) {
        text.push_str(&format!(" {cell:<width$} "));
    }
    println!("{}", text.trim_end());
}
