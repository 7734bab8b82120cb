-- The database `heliotrope` is made by the image; MLflow's tables have names that would clash.
CREATE DATABASE mlflow;
