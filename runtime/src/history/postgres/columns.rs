//! What PostgreSQL makes of moments, numbers and text, and how rows are read.

use std::borrow::Cow;

use dtask_core::time::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat, PgValueRef,
};
use sqlx::{Decode, Encode, Error, Postgres, Result, Row as _, Type, TypeInfo as _, ValueRef as _};

use crate::history::rows::Columns;

/// PostgreSQL counts microseconds from 2000-01-01, we count them from 1970-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// 4714-11-24 BC, the first moment that PostgreSQL knows.
const FIRST_MICROS: i64 = -211_813_488_000_000_000;

/// A moment as `timestamptz`. One before the calendar's first is stored as that; none is later
/// than its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) Timestamp);

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        ty.name().eq_ignore_ascii_case("timestamptz")
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.as_micros().saturating_sub(EPOCH_MICROS).max(FIRST_MICROS);
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let bytes = value.as_bytes()?;
                let micros = i64::from_be_bytes(bytes.try_into()?);
                Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH_MICROS))))
            }
            PgValueFormat::Text => Err("a moment as text was not asked for".into()),
        }
    }
}

/// PostgreSQL's text cannot hold a NUL, and what a handler says may: it is stored as U+FFFD, as
/// every byte is that cannot be shown.
pub(super) fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

impl Columns for PgRow {
    fn text(&self, column: &str) -> Result<Option<&str>> {
        self.try_get(column)
    }

    fn number(&self, column: &str) -> Result<Option<i64>> {
        let value = self.try_get_raw(column)?;
        if value.is_null() {
            return Ok(None);
        }
        match value.type_info().name() {
            "INT8" => self.try_get(column),
            "INT4" => self.try_get::<i32, _>(column).map(|number| Some(number.into())),
            "INT2" => self.try_get::<i16, _>(column).map(|number| Some(number.into())),
            other => Err(Error::Decode(format!("column {column} is a {other}").into())),
        }
    }

    fn flag(&self, column: &str) -> Result<bool> {
        self.try_get(column)
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>> {
        self.try_get(column)
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>> {
        let moment: Option<Moment> = self.try_get(column)?;
        Ok(moment.map(|moment| moment.0))
    }
}
