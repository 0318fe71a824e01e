//! Tables as wide as the servers allow.

use super::contracts::{Step, World};

const BY_ID: &str = "by: integer, column: id, width: 2";
/// PostgreSQL's own limit, and SQLite's.
const POSTGRES_COLUMNS: usize = 1_600;
const SQLITE_COLUMNS: usize = 2_000;

/// A table of so many columns with long names, and rows of which the first and the last column
/// tell.
fn wide(columns: usize) -> String {
    let last = columns - 2;
    let names: Vec<String> = (0..=last)
        .map(|n| format!("an_attribute_of_a_customer_that_has_many_of_them_{n} int"))
        .collect();
    format!(
        "create table wide (id integer primary key, {}); \
         insert into wide (id, an_attribute_of_a_customer_that_has_many_of_them_0, \
         an_attribute_of_a_customer_that_has_many_of_them_{last}) \
         values (1, 10, -1), (2, 20, -2), (3, null, -3), (4, 40, null), (5, 50, -5)",
        names.join(", ")
    )
}

fn ends(columns: usize) -> String {
    let last = columns - 2;
    format!(
        "select id, an_attribute_of_a_customer_that_has_many_of_them_0, \
         an_attribute_of_a_customer_that_has_many_of_them_{last} \
         from wide order by id"
    )
}

#[tokio::test]
async fn sixteen_hundred_columns_travel() {
    // GIVEN tables as wide as PostgreSQL and SQLite allow
    let world = World::start().await;
    let (legacy, lite) = (world.postgres("legacy").await, world.sqlite("legacy"));
    legacy.execute(&wide(POSTGRES_COLUMNS)).await;
    lite.execute(&wide(SQLITE_COLUMNS)).await;
    let step = [Step {
        table: "wide",
        partition: BY_ID,
    }];
    for (name, from, to, columns) in [
        (
            "pg_pg",
            &legacy,
            world.postgres("wh").await,
            POSTGRES_COLUMNS,
        ),
        ("pg_lite", &legacy, world.sqlite("wh"), POSTGRES_COLUMNS),
        ("lite_lite", &lite, world.sqlite("copy"), SQLITE_COLUMNS),
    ] {
        // WHEN one is copied, and once more, when the target has as many columns to tell of
        for _ in 0..2 {
            world.load(name, from, &to, &step).await;
            // THEN all of its rows are there, from the first column to the last
            assert_eq!(
                to.digest(&ends(columns)).await,
                from.digest(&ends(columns)).await,
                "{name}"
            );
        }
    }
    // AND what no target has is refused in words
    let wh = world.postgres("narrow").await;
    let finished = world.run("lite_pg", &lite, &wh, &step).await;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(
        !finished.status.success() && said.contains("1600 columns"),
        "{said}"
    );
}
