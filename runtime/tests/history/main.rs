//! The contract of a history database, and what is one kind's own. A PostgreSQL server is started
//! only with the feature `real`: plain unit tests need none.

mod contract;
#[cfg(feature = "real")]
mod postgres;
mod rows;
mod sqlite;
#[cfg(feature = "real")]
mod tls;

/// Each fact of the contract as a test of one kind of database.
macro_rules! facts {
    ($backend:ty: $($fact:ident)*) => {
        $(
            #[tokio::test]
            async fn $fact() {
                crate::contract::$fact::<$backend>().await;
            }
        )*
    };
}

/// Every fact of the contract.
macro_rules! every_fact {
    ($backend:ty) => {
        crate::facts! { $backend:
            what_was_stored_is_read_back_whole
            a_batch_offered_again_leaves_each_row_once
            only_the_cluster_that_claimed_a_database_opens_or_moves_it
            tasks_written_again_leave_the_cursor_until_the_gap_is_noted
            a_batch_for_another_epoch_is_refused_and_stores_nothing
            a_batch_that_does_not_continue_the_cursor_is_refused_and_stores_nothing
            of_two_leaders_one_moves_the_cursor_and_the_other_learns_where_it_stands
            a_failed_statement_leaves_nothing_of_its_batch
            a_later_change_replaces_a_row_and_an_earlier_one_does_not
            pages_lead_through_all_tasks_in_both_orders
            pages_by_words_lead_through_all_tasks_that_have_them
            pages_by_words_lead_through_all_executions_that_have_them
            each_filter_narrows_the_list_of_tasks
            each_filter_narrows_the_list_of_executions
            a_reader_sees_whole_batches_while_the_writer_writes
            covers_answers_when_the_cursor_gets_there_and_not_before
            a_database_whose_writer_has_gone_is_read_and_goes_on_with_the_next
        }
    };
}

pub(crate) use {every_fact, facts};
