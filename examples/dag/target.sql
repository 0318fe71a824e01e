create table months (
  month text primary key,
  orders integer not null,
  amount integer not null
);
