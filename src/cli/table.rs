//! A table of words: columns as wide as their widest cell, two spaces between them.

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lines of a table, the head first, without trailing spaces. The last column may be wider than the terminal; if
/// the others are, their cells cannot stand below each other, and then follow each other, so that most rows fit.
pub(crate) fn lines(
    columns: &[(&str, Align)],
    rows: &[Vec<String>],
    terminal: Option<usize>,
) -> Vec<String> {
    let head: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut widths = vec![0; columns.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let but_last = &widths[..widths.len().saturating_sub(1)];
    let needed = but_last.iter().sum::<usize>() + 2 * but_last.len().saturating_sub(1);
    if terminal.is_some_and(|terminal| needed > terminal) {
        widths.fill(0);
    }
    std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            let cells = row.iter().zip(&widths).zip(columns);
            let cells = cells.map(|((cell, width), (_, align))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Align, lines};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["0".to_owned(), "ready".to_owned()],
            vec!["11".to_owned(), "draining".to_owned()],
        ];
        let columns = [("SLOT", Align::Right), ("STATE", Align::Left)];
        let table = ["SLOT  STATE", "   0  ready", "  11  draining"];
        assert_eq!(lines(&columns, &rows, None), table);
        assert_eq!(lines(&columns, &rows, Some(4)), table, "the last may hang");
    }

    #[test]
    fn where_columns_do_not_fit_cells_follow_each_other() {
        let columns = [
            ("ID", Align::Left),
            ("SLOT", Align::Right),
            ("WHY", Align::Left),
        ];
        let row = |id: &str| vec![id.to_owned(), "1".to_owned(), "failed".to_owned()];
        let rows = [row("app-1"), row("a-very-long-name-2")];
        assert_eq!(
            lines(&columns, &rows, Some(20)),
            [
                "ID  SLOT  WHY",
                "app-1  1  failed",
                "a-very-long-name-2  1  failed"
            ]
        );
    }
}
