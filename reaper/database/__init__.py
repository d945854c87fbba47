"""How PostgreSQL and MariaDB are reached: connections, time limits, errors, leases, lock holders."""
