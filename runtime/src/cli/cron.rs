//! `dtask cron …`: what an expression means, offline.

use clap::{Args, Subcommand};
use dtask_core::spec::cron::{Calendar, Expression, explain};
use dtask_core::spec::text::{format_time_in, parse_time};
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;
use serde::Serialize;

use super::fail::Failure;
use super::out::{self, Out};

/// A longer expression does not fit a terminal: nothing in it is pointed at.
const LINE: usize = 100;

/// `dtask cron …`
#[derive(Debug, Subcommand)]
pub(crate) enum CronCommand {
    /// Print the next fire times, one RFC 3339 instant with offset a line
    Next(NextArgs),
    /// Say in plain English when an expression fires
    #[command(after_help = "Example:\n  dtask cron explain '30 2 * * 1-5'")]
    Explain {
        /// The expression
        #[arg(value_name = "EXPR", allow_hyphen_values = true)]
        expr: String,
    },
}

/// `dtask cron next`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  dtask cron next '30 2 * * *' --timezone Europe/Paris --after 2026-03-28T00:00:00Z --count 3"
)]
pub(crate) struct NextArgs {
    /// Five fields (minute to day of week), six (second first), seven (year last), or @daily
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expr: String,
    /// The IANA zone that the expression is read in
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
    /// Fire times after this moment; now by default
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Fire times inside the hour that spring skips: auto, skip, next
    #[arg(long, value_name = "RULE")]
    dst_gap: Option<String>,
    /// Fire times inside the hour that autumn repeats: auto, first, second, both
    #[arg(long, value_name = "RULE")]
    dst_fold: Option<String>,
}

/// What scripts get.
#[derive(Debug, Serialize)]
struct Next<'a> {
    cron_expr: &'a str,
    timezone: &'a str,
    fire_times: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Explained<'a> {
    cron_expr: &'a str,
    explanation: String,
}

impl CronCommand {
    /// Runs it.
    ///
    /// # Errors
    /// A bad expression, zone, time or rule.
    pub(crate) fn run(&self, out: &Out) -> Result<(), Failure> {
        match self {
            Self::Next(args) => args.run(out),
            Self::Explain { expr } => {
                check(expr)?;
                let explanation = explain(expr).map_err(dtask_core::spec::FieldError::from)?;
                let explained = Explained { cron_expr: expr, explanation };
                out.show(&explained, |explained| explained.explanation.clone())
            }
        }
    }
}

impl NextArgs {
    fn run(&self, out: &Out) -> Result<(), Failure> {
        use dtask_core::spec::draft::{parse_word, words};
        let gap = self.dst_gap.as_deref().unwrap_or("auto");
        let gap: DstGap = parse_word("dst_gap", gap, &words::DST_GAP)?;
        let fold = self.dst_fold.as_deref().unwrap_or("auto");
        let fold: DstFold = parse_word("dst_fold", fold, &words::DST_FOLD)?;
        check(&self.expr)?;
        let calendar = Calendar::parse(&self.expr, &self.timezone, gap, fold)?;
        let after: Timestamp = match &self.after {
            Some(after) => parse_time("after", after, Some(&self.timezone))?,
            None => super::now(),
        };
        let moments = calendar.after(after).take(self.count as usize);
        let next = Next {
            cron_expr: &self.expr,
            timezone: &self.timezone,
            fire_times: moments.map(|at| format_time_in(at, calendar.zone())).collect(),
        };
        if next.fire_times.is_empty() {
            out::note("note: the expression names no moment after that");
        }
        out.show(&next, |next| next.fire_times.join("\n"))
    }
}

/// Refuses a bad expression and points at what is wrong in it.
///
/// # Errors
/// A bad expression.
pub(super) fn check(expr: &str) -> Result<(), Failure> {
    let Err(error) = Expression::parse(expr) else { return Ok(()) };
    if expr.len() > LINE {
        return Err(dtask_core::spec::FieldError::from(error).into());
    }
    let before = expr.get(..error.span.start).unwrap_or_default().chars().count();
    let wrong = expr.get(error.span.clone()).unwrap_or_default().chars().count().max(1);
    let pointer = format!("{}{}", " ".repeat(before), "^".repeat(wrong));
    let shown: String = expr.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Err(Failure::usage(format!("cron_expr: {}\n  {shown}\n  {pointer}", error.detail))
        .hint(error.hint))
}
