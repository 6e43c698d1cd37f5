"""Language models on boards: daemon, terminal, what each board needs."""
