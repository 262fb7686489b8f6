"""Trading rules, one a file: closed candles in, prediction out."""
