-- The table as it is read today, out of date, and what hangs on it.
create table customers (
  customer_id bigint primary key,
  email text not null,
  country text not null
);
insert into customers select i, 'old' || i || '@example.org', 'de' from generate_series(1, 4000) i;
create view customers_by_country as select country, count(*) as customers from customers group by country;
grant select on customers to public;
