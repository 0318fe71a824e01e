-- Orders of the first three months of 2024, four a day. `changed_at` is set whenever a row is written.
create table orders (
  order_id integer primary key,
  changed_at text not null,
  amount integer not null
);
create index orders_changed_at on orders (changed_at);
with recursive n(i) as (select 0 union all select i + 1 from n where i < 359)
insert into orders
select i + 1, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-01-01', (i * 6) || ' hours'), 100 + i % 7 from n;
