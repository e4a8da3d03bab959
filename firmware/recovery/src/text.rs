//! Words of bounded length.

use core::fmt::{self, Write as _};

use heapless::String;

/// As many words as fit; the rest is lost.
#[derive(Debug, Default)]
pub struct Text<const N: usize>(pub String<N>);

impl<const N: usize> Text<N> {
    /// The words of `value`.
    #[must_use]
    pub fn of(value: impl fmt::Display) -> String<N> {
        let mut text = Self(String::new());
        // What does not fit is left out: `write_str` says no, and there is nothing to do about it.
        let _ = write!(text, "{value}");
        text.0
    }

    /// The end of `value`, which says more than its beginning where it is a path.
    #[must_use]
    pub fn end_of(value: &str) -> String<N> {
        let start = value.len().saturating_sub(N);
        let start = (start..=value.len()).find(|at| value.is_char_boundary(*at));
        Self::of(start.and_then(|at| value.get(at..)).unwrap_or_default())
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        for letter in words.chars() {
            self.0.push(letter).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        assert_eq!(Text::<8>::of(format_args!("{} {}", "one", 23)), "one 23");
        assert_eq!(Text::<4>::of("f\u{fc}nf"), "f\u{fc}n");
        assert_eq!(Text::<5>::end_of("src/main.rs"), "in.rs");
        assert_eq!(Text::<4>::end_of("a\u{fc}\u{fc}b"), "\u{fc}b");
        assert_eq!(Text::<4>::end_of("ab"), "ab");
    }
}
