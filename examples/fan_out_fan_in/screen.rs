//! A few gauges: drawn in place on a terminal, a line each time elsewhere.

use std::io::IsTerminal as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, style::TemplateError};

/// Where the gauges are shown.
pub(crate) enum Screen {
    Terminal(Vec<ProgressBar>),
    Lines(Vec<&'static str>),
}

impl Screen {
    /// A gauge for each name, from 0 to 100.
    pub(crate) fn new(names: &[&'static str]) -> Result<Self, TemplateError> {
        if !std::io::stdout().is_terminal() {
            return Ok(Self::Lines(names.to_vec()));
        }
        let style = ProgressStyle::with_template("{prefix:>12} {bar:40} {msg}")?;
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let gauge = |name| all.add(ProgressBar::new(100).with_style(style.clone()).with_prefix(name));
        Ok(Self::Terminal(names.iter().map(|name| gauge(*name)).collect()))
    }

    /// Shows each gauge's place between 0 and 100 and its text. Off a terminal only what `is_line` becomes a line.
    pub(crate) fn show(&self, gauges: &[(u64, String)], is_line: bool) {
        match self {
            Self::Terminal(bars) => {
                for (bar, (place, text)) in bars.iter().zip(gauges) {
                    bar.set_position(*place);
                    bar.set_message(text.clone());
                }
            }
            Self::Lines(names) if is_line => {
                let parts = names.iter().zip(gauges).map(|(name, (_, text))| format!("{name} {text}"));
                println!("  {}", parts.collect::<Vec<_>>().join(", "));
            }
            Self::Lines(_) => {}
        }
    }

    /// Leaves what is shown as it is.
    pub(crate) fn finish(&self) {
        if let Self::Terminal(bars) = self {
            bars.iter().for_each(ProgressBar::abandon);
            println!();
        }
    }
}
