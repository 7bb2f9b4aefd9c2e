module remuda

go 1.19
