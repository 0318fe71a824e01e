use super::*;
use crate::log::ColumnDefinition;

fn text(value: &str) -> Field {
    Field::Text(value.as_bytes().to_vec())
}

fn relation(id: u32, name: &str, columns: &[&str]) -> Message {
    let columns = columns.iter().map(|name| ColumnDefinition {
        is_key: *name == "id",
        name: (*name).to_owned(),
        type_id: 25,
        modifier: -1,
    });
    Message::Relation(RelationDefinition {
        id,
        schema: "public".to_owned(),
        name: name.to_owned(),
        identity: b'd',
        columns: columns.collect(),
    })
}

/// Follows `people`, of whose columns `note, id` are copied and `secret` is not.
fn follower(after: u64) -> Follower {
    let table = TableName {
        schema: Some("public".to_owned()),
        name: "people".to_owned(),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (columns, left_out) = (names(&["note", "id"]), names(&["secret"]));
    let mut follower = Follower::new(table, columns, left_out, vec![1], Lsn::new(after));
    let known = relation(1, "people", &["id", "secret", "note"]);
    assert_eq!(follower.take(known), Ok(None));
    assert_eq!(follower.take(relation(2, "others", &["x"])), Ok(None));
    follower
}

fn change(follower: &mut Follower, message: Message) -> Option<RowChange> {
    match follower.take(message) {
        Ok(None) => None,
        Ok(Some(LogEvent::Change(change))) => Some(change),
        other => panic!("{other:?}"),
    }
}

fn begin(commit: u64) -> Message {
    Message::Begin {
        commit: Lsn::new(commit),
        micros: 0,
        xid: 1,
    }
}

#[test]
fn the_copied_columns_of_the_table_are_told_in_their_order() {
    let mut of = follower(0);
    let new = vec![text("1"), text("hidden"), text("hello")];
    let inserted = change(&mut of, Message::Insert { relation: 1, new });
    assert_eq!(
        inserted,
        Some(RowChange::Put(vec![text("hello"), text("1")]))
    );
    let new = vec![text("x")];
    assert_eq!(change(&mut of, Message::Insert { relation: 2, new }), None);
    let emptied = Message::Truncate {
        relations: vec![2, 1],
    };
    assert_eq!(
        change(&mut of, emptied),
        Some(RowChange::Truncate { at: 0 })
    );
    assert_eq!(
        change(&mut of, Message::Truncate { relations: vec![2] }),
        None
    );
}

#[test]
fn an_update_is_a_move_where_the_key_changed() {
    let mut of = follower(0);
    let update = |old, new| Message::Update {
        relation: 1,
        old,
        new,
    };
    let new = || vec![text("2"), text("s"), Field::Unchanged];
    let since = || vec![Field::Unchanged, text("2")];
    let put = change(&mut of, update(None, new()));
    assert_eq!(put, Some(RowChange::Put(since())));
    let was = OldTuple::Key(vec![text("1"), Field::Null, Field::Null]);
    let moved = change(&mut of, update(Some(was), new()));
    assert_eq!(
        moved,
        Some(RowChange::Move {
            from: vec![text("1")],
            row: since()
        })
    );
    // a table that tells all of a row tells what stayed as well
    let was = OldTuple::Whole(vec![text("2"), text("s"), text("long")]);
    let put = change(&mut of, update(Some(was), new()));
    assert_eq!(put, Some(RowChange::Put(vec![text("long"), text("2")])));
}

#[test]
fn what_was_applied_before_is_not_told_again() {
    let mut of = follower(100);
    for (commit, end, is_told) in [(50, 60, false), (90, 100, false), (100, 110, true)] {
        assert_eq!(of.take(begin(commit)), Ok(None));
        let old = OldTuple::Key(vec![text("1"), Field::Null, Field::Null]);
        let deleted = change(&mut of, Message::Delete { relation: 1, old });
        assert_eq!(deleted.is_some(), is_told, "{commit}");
        let (commit, end) = (Lsn::new(commit), Lsn::new(end));
        let ended = of.take(Message::Commit {
            commit,
            end,
            micros: 0,
        });
        let at = 946_684_800_000_000;
        assert_eq!(ended, Ok(is_told.then_some(LogEvent::Commit { end, at })));
    }
}

#[test]
fn a_table_that_changed_is_followed_no_further() {
    for columns in [&["id", "secret"][..], &["id", "secret", "note", "new"]] {
        let told = follower(0).take(relation(1, "people", columns));
        assert!(matches!(told, Err(Unfollowed::Columns { .. })), "{told:?}");
    }
    let old = OldTuple::Key(vec![Field::Null, Field::Null, Field::Null]);
    let told = follower(0).take(Message::Delete { relation: 1, old });
    assert!(matches!(told, Err(Unfollowed::NoKey { .. })), "{told:?}");
    let unknown = follower(0).take(Message::Truncate { relations: vec![9] });
    assert_eq!(unknown, Err(Unfollowed::NoRelation));
}
